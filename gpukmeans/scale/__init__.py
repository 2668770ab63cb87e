"""Rows from files: one reader a format, each a source of blocks; and tables read from them whole."""
