"""A source file that has grown past what one reader holds in mind wants to be two."""

LONGEST = 450
SOURCE = {".py", ".c", ".h", ".j2", ".lark", ".sh", ".ld"}


def test_no_source_file_is_long(root, files):
    lengths = {str(path): len((root / path).read_text().splitlines()) for path in files if path.suffix in SOURCE}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}
