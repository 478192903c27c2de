"""What the playground offers to try: a clear answer, an answer among near misses, and a question without any."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """A question with documents."""

    name: str
    title: str
    query: str
    documents: tuple[str, ...]


EXAMPLES = (
    Example(
        "clear",
        "a clear answer",
        "Who is allowed to park in the yard behind the office?",
        (
            "Visitors park on the street; the yard behind the office is kept for deliveries and for staff with a "
            "disabled badge.",
            "The office has a garage for bicycles with forty places.",
            "The yard was repaved last summer and has a new gate.",
            "Parking fines in the city rose to 25 this year.",
        ),
    ),
    Example(
        "near-misses",
        "near misses",
        "How long may a rental e-bike stay outside a station before a fee is charged?",
        (
            "Outside a station an e-bike may stand for 15 minutes with the trip paused. From the sixteenth minute on, "
            "a parking fee of 0.20 per minute is added to the trip.",
            "Our e-bikes have a range of about 60 kilometres. The charge is shown on the display, and stations charge "
            "them automatically as soon as they are locked in place.",
            "Standard bikes can be returned to any station. When a station is full, press the button on the post and "
            "you get ten free minutes to reach the next one.",
            "Fees for damage depend on the part: 25 for a bell, 90 for a front wheel, 600 for a lost battery.",
            "The old town hall is open for visitors from Tuesday to Sunday, and on Mondays by appointment.",
        ),
    ),
    Example(
        "nothing-there",
        "no answer here",
        "Which vaccine is required to enter the country of Brelovia?",
        (
            "Visitors to Brelovia need a passport that is valid for six months beyond the date of entry.",
            "Vaccines are stored between two and eight degrees. A vaccine that was frozen must not be used.",
            "The health ministry of Brelovia employs four hundred people in its capital.",
            "Travellers to the neighbouring Kestrin must show proof of a yellow fever vaccination.",
        ),
    ),
)
