"""The sections of the report, in its order: each in a module of its own, with its words, its numbers and its figures."""

from mammogan_tf.evaluation.sections.distribution import DISTRIBUTION
from mammogan_tf.evaluation.sections.diversity import DIVERSITY
from mammogan_tf.evaluation.sections.downstream import DOWNSTREAM
from mammogan_tf.evaluation.sections.fidelity import FIDELITY
from mammogan_tf.evaluation.sections.memorisation import MEMORISATION
from mammogan_tf.evaluation.sections.obedience import OBEDIENCE
from mammogan_tf.evaluation.sections.section import REFERENCES, Measure, Picture, Section
from mammogan_tf.evaluation.sections.segmentation import AGREEMENT, BY_CLASS

__all__ = ["REFERENCES", "SECTIONS", "Measure", "Picture", "Section"]

SECTIONS: tuple[Section, ...] = (
    AGREEMENT,
    BY_CLASS,
    FIDELITY,
    DIVERSITY,
    DISTRIBUTION,
    OBEDIENCE,
    MEMORISATION,
    DOWNSTREAM,
)
