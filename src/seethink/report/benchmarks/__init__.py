"""The page of `seethink eval --bench`."""
