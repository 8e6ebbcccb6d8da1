"""How the report is to be read, and what it cannot show."""

from __future__ import annotations

import html

from training.report.parts import Part
from training.report.result import Result

WORDS = {
    "balanced accuracy": "mean of the share of perceived trials called so and of missed trials called so; 50 is "
    "chance, whatever the rate of percepts",
    "interval": "95 %, bootstrap over trials within sessions: of these participants. What the next participant would "
    "give stands in a table of its own (Student's interval over participants)",
    "50.0 [50.0, 50.0]": "cross-validation found nothing better than the usual rate, which is then all that is said",
    "share": "what a row has above 50, over what the ideal observer of the same window has above 50",
    "MAE": "the frozen encoder of the masked autoencoder, its tokens pooled by their mean (the paper's way), by mean "
    "and spread, by its registers, by attention learned without labels, or by place",
    "slow": "two directions of the same features that change slowly at rest, learned without labels; a rival is given "
    "the same map",
    "PCA": "principal components, of the labelled trials or of rest",
    "rivals": "ln variance of each channel, lagged covariances of the spontaneous components, all statistics together",
    "controls": "the same encoder untrained, trained on time-shuffled rest, or without its cross-session loss; its "
    "electrodes permuted, or ten of them lost at the test",
    "ideal observers": "know how the simulated participant was made, and see the state itself, the same window, two "
    "seconds more, or no cortex at all",
}


def how(result: Result) -> Part:
    """The words of the report, the split, the date and the machine."""
    numbers = result.numbers
    lines = "".join(f"<dt>{html.escape(word)}</dt><dd>{html.escape(text)}</dd>" for word, text in WORDS.items())
    machine = numbers.get("machine", {})
    made = ", ".join(f"{key} {value}" for key, value in machine.items())
    measured = (
        f"Measured {numbers.get('made', '')} in {numbers.get('core_seconds', 0) / 60:.0f} minutes of one core; {made}."
    )
    note = (
        "Every row is a logistic regression (or a small network) fitted to the first 80 % of each session; penalties "
        "are chosen by blocked cross-validation inside that part. New sessions were never learned from. No split is by "
        "random trial: neighbours share slow states."
    )
    worth = (
        "The participants are simulated: a percept depends on a hidden state because we wrote it so. What is shown is "
        "that the methods find that state, not that cortex has it."
        if result.simulated
        else "One participant: nothing is said about another."
    )
    text = f"<dl>{lines}</dl><p>{html.escape(worth)}</p><p class='quiet'>{html.escape(measured)}</p>"
    return Part("reading", "How to read it, and what it is worth", note, tables=[text])
