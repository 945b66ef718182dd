"""What to do about a bad row, by reason (the words of data/quarantine.py)."""

from __future__ import annotations

ADVICE: dict[str, str] = {
    "not_json": "write one JSON object per line",
    "bad_member": "write the shard again: plain files with names inside the archive, each once, texts as UTF-8 or JSON",
    "missing_column": "rename the columns, or state data.style (docs/data.md has the columns of each)",
    "bad_message": "give one user turn of text and images, and at most one assistant turn",
    "multi_turn": "cut the conversation to one question and its answer",
    "unsupported_media": "drop these rows: only images are supported",
    "image_count": "write one <image> mark for each image in the question and its choices, or none at all",
    "unread_images": "rename the column to images (docs/data.md has the names that are read)",
    "image_source": "give each image as a path, as bytes, or as a data: URI",
    "image_missing": "copy the files there, or set data.image_root to the folder that the paths are relative to",
    "image_outside_root": "copy the images under the data's folder, or set data.image_root to a folder above both",
    "image_address": "download the images first and give their paths (data.allow_urls=true would fetch them)",
    "image_unreadable": "make or download these files again, or drop the rows",
    "image_too_large": "scale these images down, or raise data.max_pixels",
    "image_aspect": "cut or pad these images: processors fail on such strips",
    "empty_gold": "fill in the answer or drop the row",
    "bad_gold": "write the answer alone, as a response must state it",
    "bad_answer_type": "correct the type, or leave it out: the grader tells the kind of answer by itself",
    "bad_choices": "give 2 to 26 different option texts as a list",
    "gold_outside_choices": "correct the answer or the choices: it must be a letter or the text of one of them",
    "broken_text": "write these texts again: an encoder has cut an emoji or another character in half",
    "special_token": "remove or respell the token: it would forge a turn or the place of an image",
    "prompt_refused": "drop these rows or change their images: the model's processor does not take them",
    "prompt_beyond_model": "shorten these prompts or their images, or set data.max_prompt_tokens to leave them out",
    "prompt_too_long": "nothing, if that is what data.max_prompt_tokens is for; else raise it",
}
