"""Which features of a data set are its cameras, and which images are left unread."""

from nearer.datasets.lerobot.schema import DatasetInfo

IMAGES = "observation.images."
ONLY_IMAGE, ONLY_CAMERA = "observation.image", "pixels"
"""What lerobot calls the image of an env that has one camera without a name, and what we do."""


def camera_keys(info: DatasetInfo) -> dict[str, str]:
    """Return the feature of every camera that is read, by the camera's name."""
    keys: dict[str, str] = {}
    for key, feature in info.features.items():
        if feature.is_camera and not feature.is_depth_map:
            if key.startswith(IMAGES):
                keys[key.removeprefix(IMAGES)] = key
            elif key == ONLY_IMAGE:
                keys.setdefault(ONLY_CAMERA, key)
    return keys


def unread_images(info: DatasetInfo) -> str | None:
    """Return a sentence about the images that are not read, and why; None if all are."""
    read = camera_keys(info).values()
    unread = [key for key, feature in info.features.items() if feature.is_camera]
    depth = sorted(key for key in unread if info.features[key].is_depth_map)
    strange = sorted(key for key in unread if key not in read and key not in depth)
    remarks: list[str] = []
    if strange:
        name = strange[0].rpartition(".")[2] or "camera"
        remarks.append(
            f"the images {', '.join(strange)} are not read: a camera is {IMAGES}NAME; "
            f"--rename {strange[0]}={IMAGES}{name} makes it one"
        )
    if depth:
        remarks.append(f"the depth maps {', '.join(depth)} are not read: they hold no colours")
    return "; ".join(remarks) or None
