"""Whole jobs under kills and failing disks: the bill, the journal and the table are compared after each."""
