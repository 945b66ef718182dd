"""What processors take of videos: arrays of frames, and when each is shown.

Frames are sampled already. A processor is told their times as places at one frame a second, which holds for frames at
uneven distances too: Qwen3-VL writes them before each pair of frames, and Qwen2.5-VL spaces its positions by the rate
that follows from their number and the duration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from seethink.core.errors import UserError
from seethink.core.types import VideoRef
from seethink.data.template import TemplateError

NO_VIDEOS = "the row has a video, and this model's family takes none (docs/families.md lists those that do)"


def video_inputs(videos: Sequence[VideoRef]) -> dict[str, Any]:
    """Arguments of a processor's call; none without videos. Raises RowError where a file has changed."""
    if not videos:
        return {}
    from transformers.video_utils import VideoMetadata

    frames = [np.stack([np.asarray(picture) for picture in video.load()]) for video in videos]
    told = [
        VideoMetadata(
            total_num_frames=video.duration,  # type: ignore[arg-type]  # a share of a second counts
            fps=1.0,
            width=video.size[0],
            height=video.size[1],
            duration=video.duration,
            frames_indices=list(video.seconds),  # type: ignore[arg-type]
        )
        for video in videos
    ]
    options = {
        "do_sample_frames": False,
        "video_metadata": told,
        "return_metadata": True,
        "input_data_format": "channels_last",
    }
    return {"videos": frames, "videos_kwargs": options}


def check_frames(tensors: Mapping[str, Any], processor: Any) -> None:
    """Raises UserError where frames that stand among the images (InternVL) have another size than images have."""
    pixels = tensors.get("pixel_values")
    if pixels is None or "pixel_values_videos" in tensors:
        return
    size = processor.image_processor.size
    if tuple(pixels.shape[-2:]) != (size["height"], size["width"]):
        raise UserError(
            f"the processor makes frames of {pixels.shape[-1]}x{pixels.shape[-2]} pixels and images of "
            f"{size['width']}x{size['height']}: give its video_processor the size of its image_processor"
        )


def check_places(text: str, processor: Any, videos: Sequence[VideoRef]) -> None:
    """Raises TemplateError where a template has not written a place for each video: templates of older checkpoints
    know images alone and drop the others without a word."""
    token = getattr(processor, "video_token", None)
    if videos and (token is None or text.count(token) != len(videos)):
        found = 0 if token is None else text.count(token)
        raise TemplateError(
            f"the model's chat template writes {found} places for {len(videos)} videos; use one that takes content "
            "parts of the type 'video'"
        )
