"""Why a file of a source is quarantined or ignored, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

from darkroom.data.decoding import MAX_PIXEL_BYTES, MAX_PIXELS, MAX_SCANS, MAX_SIDE


class Reason(NamedTuple):
    meaning: str
    remedy: str


REASONS = {
    "empty": Reason("the file has no bytes", "copy it again from where it came"),
    "not_an_image": Reason("the content is no image in a format that Darkroom reads", "convert it to JPEG or PNG, or move it away"),
    "unread_format": Reason(
        "an image in a format that Darkroom does not read",
        "convert it to JPEG or PNG, for example with `magick mogrify -format jpg FILE`, or export it from the program that made it",
    ),
    "truncated": Reason("the image ends before its last row", "copy it again from where it came: the end is missing"),
    "corrupt": Reason(
        "the image data cannot be decoded",
        "copy it again from where it came, or save it anew from an editor that still opens it",
    ),
    "too_small": Reason("a side is shorter than ingest.min_size", "find a larger version, or lower ingest.min_size"),
    "too_large": Reason(
        f"the header claims more than {MAX_PIXELS:,} pixels, {MAX_SIDE:,} a side, or what takes more than "
        f"{MAX_PIXEL_BYTES * MAX_PIXELS / 2**30:.0f} GiB while it is decoded",
        "scale it down",
    ),
    "too_many_scans": Reason(
        f"a JPEG of more than {MAX_SCANS} scans, which would take minutes to decode", "save it anew from an editor"
    ),
    "unreadable": Reason(
        "the file cannot be opened",
        "give yourself the right to read it; a link must lead to a file, and pipes and devices are none",
    ),
    "leaves_source": Reason(
        "the path or link leads out of the source", "write paths relative to the source, or copy the file into it"
    ),
    "linked_folder": Reason("a link to a folder that is listed elsewhere, or around the link", "remove the link"),
    "linked_file": Reason("a link in an archive, which is not followed", "archive the file itself (tar --dereference)"),
    "encrypted": Reason("the archive has it encrypted", "archive it without a password"),
    "missing": Reason("the table names it, and there is no such file", "add the file, or take its line out of the table"),
    "unlabelled": Reason("the source gives it no label", "give it a label in the table, or in the array of labels"),
    "duplicate_across_splits": Reason(
        "the same picture lies in a split that must not share it",
        "remove one of the copies, or set ingest.on_leak: keep",
    ),
    "group_across_splits": Reason(
        "the table groups it with images in a split that must not share them",
        "put the group into one split in the table, or set ingest.on_leak: keep",
    ),
    "label_conflict": Reason(
        "the same picture has several labels",
        "decide which label is right, in data/label_fixes.csv, or set ingest.on_conflict: keep; for photographs of one "
        "scene set ingest.near_duplicates: exact",
    ),
}
IGNORE_REASONS = {
    "litter": "a hidden file, or one that an operating system leaves behind",
    "no_image": "its name, or an unknown name and its content, says that it is no image",
    "sidecar": "an image in a format that is not read, beside the same one in a format that is",
    "outside_classes": "lies outside any class folder",
    "table": "the table itself",
    "not_in_table": "the table does not name it",
    "sample_part": "a part of a sample beside its image: its label, or another image",
    "superseded": "a later member of the archive has the same name",
}
