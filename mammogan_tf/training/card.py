"""Model cards: what a model is, what it was trained on, and what it must not be used for."""

import re
from typing import Any

from mammogan_tf import __version__
from mammogan_tf.config import GANConfig, UNetConfig
from mammogan_tf.metrics.detection import LESION_IOU
from mammogan_tf.training.run import Run

__all__ = ["cross_validation_card", "gan_card", "unet_card", "with_measured"]

SEEN = {"whole": "a film", "roi": "a square of a film around a lesion, or around some tissue"}
"""What a network of each view sees."""

INTENDED_USE = """## Intended use

Research and teaching. **Never for diagnosis.** A synthetic mammogram shows no patient; it must be labelled as synthetic
wherever it is shown, and it supplements real, annotated films but does not stand in for them.
"""


def unet_card(run: Run, report: dict[str, Any]) -> str:
    """The card of a segmentation network, in Markdown."""
    config = run.config_of(UNetConfig)
    kinds = [report["dice"][kind] for kind in ("cleaned", "as_it_is")]
    rows = [f"| {region} | " + " | ".join(_mean_of_films(kind[region]) for kind in kinds) + " |" for region in kinds[0]]
    return f"""# U-Net: anatomy and lesions on mammograms

Input: {SEEN[config.data.view]}, {config.data.size} x {config.data.size} px, grey levels in [0, 1].
Output: probabilities of background, adipose tissue, fibroglandular tissue, pectoral muscle and lesion for each pixel.
Levels of {", ".join(map(str, config.level_widths))} channels, {report["parameters"]:,} parameters;
averaged weights of epoch {report["best_epoch"]}, the best on validation films of {report["epochs"]} (at most {config.epochs}).

{_training(run, report)}
## Dice on test patients

Against drawn masks where there are any, else the automatic anatomy and the annotated lesion circles. In brackets: the films
that have the region, or were given one.

| region | background black | film as it is |
| --- | --- | --- |
{chr(10).join(rows)}

{_beside_disc(report)}{INTENDED_USE}"""


def _beside_disc(report: dict[str, Any]) -> str:
    if "disc" not in report:
        return ""
    cell = report["disc"]["cleaned"]
    network, disc = (_mean({"mean": cell[name]}) for name in ("network", "disc"))
    return f"On the {cell['films']} windows that show a lesion: {network}; a disc in the middle of each: {disc}.\n\n"


def cross_validation_card(run: Run, report: dict[str, Any]) -> str:
    """What cross-validation found, in Markdown."""
    config = run.config
    kinds = {"background black": report["dice"]["cleaned"], "film as it is": report["dice"]["as_it_is"]}
    tissues = {f"tissue {tissue}": cells for tissue, cells in report["tissue"].items()}
    clear = {"clear masks": report["clear"]}
    longest = max(fold["seconds"] for fold in report["folds"])
    return f"""# U-Net in cross-validation: anatomy and lesions on mammograms

Input: {SEEN[config.data.view]}, {config.data.size} x {config.data.size} px. Each of {report["films"]} was evaluated with a
network that was trained without its patient: {len(report["folds"])} folds by patient, trained for {report["seconds"] / 60:.1f}
minutes in all and {longest / 60:.1f} at most; seed {config.seed}. `masks.npz` holds the predicted masks. Hyper-parameters:
`config.json`.

Mean over films with a 95 % interval over patients, against drawn masks where there are any, else the automatic anatomy and
the annotated lesion circles. By tissue, and where the automatic mask is clear (not doubtful by its confidence), films come
with a black background.

## Dice

{_estimates({**kinds, **tissues, **clear})}

## Lesions found

An intersection over union of {LESION_IOU} or more finds a lesion. The last rows are of the free-response curve, at 0.25 and at
1 false positive per image.

{_estimates({"background black": report["lesions"]["cleaned"], "film as it is": report["lesions"]["as_it_is"]})}

{_estimates_beside_disc(report)}{INTENDED_USE}"""


def _estimates_beside_disc(report: dict[str, Any]) -> str:
    if "disc" not in report:
        return ""
    columns = {"background black": report["disc"]["cleaned"], "film as it is": report["disc"]["as_it_is"]}
    return f"""## Dice of the lesions in windows that show one, and of a disc in the middle of each

{_estimates(columns)}

"""


def _estimates(columns: dict[str, dict[str, Any]]) -> str:
    """A Markdown table of estimates, a row for each of their names."""
    rows = [f"| | {' | '.join(columns)} |", "| --- " * (len(columns) + 1) + "|"]
    for name in next(iter(columns.values())):
        rows.append(
            f"| {name.replace('_', ' ')} | " + " | ".join(_cell(cells[name]) for cells in columns.values()) + " |"
        )
    return "\n".join(rows)


def _cell(estimate: dict[str, Any]) -> str:
    if "value" not in estimate:
        return "not computed"
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


NOT_MEASURED = """## Measured

Not yet: `mammogan-tf evaluate --gan RUN` measures similarity, diversity, obedience to the mask and memorisation on patients
that the training has not seen, and writes it here."""


def with_measured(card: str, measured: str) -> str:
    """A card with this section "Measured" in place of the one it has, or at its end."""
    found = re.search(r"^## Measured[ \t]*$.*?(?=^##? |\Z)", card, re.MULTILINE | re.DOTALL)
    before, after = (card[: found.start()], card[found.end() :]) if found else (card, "")
    return "\n\n".join(part for part in (before.rstrip(), measured, after) if part).rstrip() + "\n"


def gan_card(run: Run, report: dict[str, Any]) -> str:
    """The card of a generator, in Markdown."""
    config = run.config_of(GANConfig)
    labels = ", ".join(run.trained_labels)
    return f"""# Generator: mask-conditioned synthetic mammograms

Input: noise, a label map ({config.data.size} x {config.data.size} px, five classes) and a label ({labels}).
Output: {SEEN[config.data.view]}, grey levels in [0, 1]. Conditional DCGAN, trained as a WGAN
with gradient penalty, lambda {config.gp:g}, {config.n_critic} critic updates to one of the generator,
{_updates(config, report)} generator updates, {_other_losses(report)}{_variants(report)};
averaged weights of step {report["best_step"]}, whose films of validation masks had the lowest KID to the training films.

{_training(run, report)}
{NOT_MEASURED}

{INTENDED_USE}"""


def _updates(config: GANConfig, report: dict[str, Any]) -> str:
    trained = report["last"]["step"]
    return f"{trained}" if trained == config.steps else f"{trained} of {config.steps}"


def _other_losses(report: dict[str, Any]) -> str:
    kinds = {"anatomy_loss": "a loss for anatomy", "energy_score": "an energy score for variety at one mask"}
    found = [words for name, words in kinds.items() if name in report["last"]]
    return f"beside {' and '.join(found)}" if found else "without a loss for anatomy"


def _variants(report: dict[str, Any]) -> str:
    count = report["films"]["variants"]
    return f", on the films and {count} that were moved at random with their masks" if count else ""


def _training(run: Run, report: dict[str, Any]) -> str:
    films, kind = report["films"], "films" if run.config.data.view == "whole" else "windows"
    return f"""## Training

mammogan-tf {__version__}; {films["train"]} {kind} trained, {films["validation"]} validated and {films["test"]} were kept apart
for testing, split by patient; {report["seconds"] / 60:.1f} minutes; seed {run.config.seed}. Hyper-parameters: `config.json`.
"""


def _mean_of_films(cell: dict[str, Any]) -> str:
    return _mean(cell) + (f" ({cell['films']})" if cell["films"] else "")


def _mean(cell: dict[str, Any]) -> str:
    return "no films" if cell["mean"] is None else f"{cell['mean']:.3f}"
