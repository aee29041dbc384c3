"""Why a file of a source is not used, what each reason means, and what to do about it."""

from __future__ import annotations

from darkroom.data.decoding import MOST_PIXELS, MOST_SCANS

REASONS = {
    "empty": "the file has no bytes",
    "not_an_image": "the content is no image in a format that Darkroom reads",
    "truncated": "the image ends before its last row",
    "corrupt": "the image data cannot be decoded",
    "too_small": "a side is shorter than ingest.min_size",
    "too_large": f"the header claims more than {MOST_PIXELS:,} pixels",
    "too_many_scans": f"a JPEG of more than {MOST_SCANS} scans, which would take minutes to decode",
    "unreadable": "the file cannot be opened",
    "leaves_source": "the path or link leads out of the source",
    "linked_folder": "a link to a folder, which is not followed",
    "linked_file": "a link in an archive, which is not followed",
    "encrypted": "the archive has it encrypted",
    "missing": "the table names it, and there is no such file",
    "unlabelled": "the source gives it no label",
    "duplicate_across_splits": "the same picture lies in a split that must not share it",
    "group_across_splits": "the table groups it with images in a split that must not share them",
    "label_conflict": "the same picture has several labels",
}
REMEDIES = {
    "empty": "copy it again from where it came",
    "not_an_image": "convert it to JPEG or PNG, or move it away",
    "truncated": "copy it again from where it came: the end is missing",
    "corrupt": "copy it again from where it came, or save it anew from an editor that still opens it",
    "too_small": "find a larger version, or lower ingest.min_size",
    "too_large": "scale it down",
    "too_many_scans": "save it anew from an editor",
    "unreadable": "give yourself the right to read it; a link must lead to a file",
    "leaves_source": "copy the file into the source in place of the link",
    "linked_folder": "copy the folder into the source in place of the link",
    "linked_file": "archive the file itself (tar --dereference)",
    "encrypted": "archive it without a password",
    "missing": "add the file, or take its line out of the table",
    "unlabelled": "give it a label in the table, or in the array of labels",
    "duplicate_across_splits": "remove one of the copies, or set ingest.on_leak: keep",
    "group_across_splits": "put the group into one split in the table, or set ingest.on_leak: keep",
    "label_conflict": "decide which label is right, in data/label_fixes.csv, or set ingest.on_conflict: keep",
}
IGNORED = {
    "litter": "a hidden file, or one that an operating system leaves behind",
    "outside_classes": "lies outside any class folder",
    "table": "the table itself",
    "not_in_table": "the table does not name it",
    "superseded": "a later member of the archive has the same name",
}
