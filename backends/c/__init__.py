"""What all targets that emit C share: text, files of a project, and running them; and the target `c`."""
