"""What each number of the report is called, what it means, and when not to trust it."""

from dataclasses import dataclass

__all__ = ["REFERENCES", "SECTIONS", "Measure", "Section"]


@dataclass(frozen=True)
class Measure:
    """One row of a table: its key in ``report.json``, its title, and how to read it."""

    key: str
    title: str
    reading: str


@dataclass(frozen=True)
class Section:
    """One part of the report: its key in ``report.json``, what it shows, when not to trust it, its rows."""

    key: str
    title: str
    meaning: str
    caution: str
    measures: tuple[Measure, ...]


REFERENCES = {
    "floor": "real films",
    "ceiling": "real films (ceiling)",
    "control": "shuffled masks (control)",
}
"""Titles of the estimates that stand beside a value."""


def _obedience() -> tuple[Measure, ...]:
    rows = []
    for region, title in {
        "breast": "Breast (fatty and dense together)",
        "pectoral": "Pectoral muscle",
        "dense": "Dense tissue",
        "lesion": "Lesion",
    }.items():
        rows.append(Measure(f"dice_{region}", f"{title}: Dice", "near the ceiling and far above the control is good"))
        rows.append(Measure(f"dice_{region}_to_ceiling", f"{title}: share of the ceiling", "1 is as good as real"))
    return tuple(rows)


SECTIONS = (
    Section(
        "similarity",
        "Does a synthetic image resemble the film that its mask came from?",
        "SSIM of each synthetic image with the real film whose mask it was made from, beside real films of other "
        "patients with the same tissue class, and beside the other breast of the same patient.",
        "SSIM rewards smoothness and the black around the breast, which the mask gives away: a blurred image can "
        "score higher than a sharp one. Above the floor means that the mask carried anatomy over, not that texture is "
        "right.",
        (
            Measure("ssim_own_film", "SSIM with its own film", "above the floor: the mask is worth something"),
            Measure("ssim_left_right", "SSIM of the left with the right breast (real)", "what two alike breasts reach"),
        ),
    ),
    Section(
        "diversity",
        "Are the synthetic images as different from one another as real films are?",
        "Pairwise SSIM among synthetic images: of masks of different patients, beside the real films of the same "
        "patients; and of one mask with different noise, beside the two breasts of a patient. Lower is more diverse.",
        "Noise makes images differ too: read it together with the texture distances. Across masks, differing outlines "
        "alone give some diversity.",
        (
            Measure("ssim_across_masks", "SSIM across masks", "near the value of real films is good"),
            Measure("ssim_across_masks_to_real", "SSIM across masks, ratio to real", "1 is as diverse as real films"),
            Measure("ssim_same_mask", "SSIM with the same mask", "near 1: the noise changes nothing"),
        ),
    ),
    Section(
        "obedience",
        "Does the generator draw what the mask asks for?",
        "Dice between the mask asked for and the mask that an independent segmenter, trained on real films only, "
        "finds in the image. The ceiling is its Dice on the real films of the same masks; the control compares with "
        "the mask of another patient. Only films whose mask holds the region are judged.",
        "Where the ceiling is low the segmenter cannot judge the region: lesions are a few pixels wide at this size. "
        "A generator that cuts the background out of the mask gets the outline of the breast for nothing. Above the "
        "ceiling means images that are easier than real ones, not better.",
        _obedience(),
    ),
    Section(
        "distribution",
        "Are grey levels and texture those of real films?",
        "Distances of 31 handcrafted texture features to the training films: kernel distance (KID, unbiased) and "
        "floor over Frechet distance (FID). The floor is the distance of the real test films, whose masks the "
        "synthetic images share. Averaged over sets of one synthetic image for each film, so that both sides have "
        "equal numbers.",
        "Few films give wide intervals; values below the floor hint at copied training films. Texture features do not "
        "see whether anatomy makes sense.",
        (
            Measure(
                "kid_texture", "KID, texture", "near the floor is good; both scatter around 0 where nothing differs"
            ),
            Measure("floor_over_fid_texture", "Floor / FID, texture", "1 is as close as real films are"),
        ),
    ),
    Section(
        "memorisation",
        "Does it hand out training films?",
        "Distance of each synthetic image to its nearest training film, over the same for real films of unseen "
        "patients (ratio of medians).",
        "Well below 1 means copies, or images smoother than real ones, which lowers every distance: look at the "
        "closest pairs. Near 1 does not prove privacy.",
        (Measure("neighbour_ratio", "Nearest training film, ratio to unseen films", "0.95 or more is good"),),
    ),
)
