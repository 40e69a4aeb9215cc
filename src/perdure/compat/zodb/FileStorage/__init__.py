"""The file storage and its parts."""
