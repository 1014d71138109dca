"""How results look in a terminal. Pure: values in, text out."""

from __future__ import annotations

from decimal import Decimal

from aistrale.exceptions import (
    AistraleError,
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    InvalidRequestError,
    PermissionDeniedError,
    RateLimitError,
)
from aistrale.models import Completion

EXIT_CODES: tuple[tuple[type[AistraleError], int], ...] = (
    (AuthenticationError, 4),
    (PermissionDeniedError, 4),
    (RateLimitError, 5),
    (BudgetExceededError, 5),
    (ConfigurationError, 2),
    (InvalidRequestError, 2),
    (AistraleError, 1),
)


def exit_code(error: AistraleError) -> int:
    """The exit status that stands for an error: 2 usage, 4 authentication, 5 rate limit or budget, else 1."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def summary(completion: Completion) -> str:
    """The last line of a call: model, tokens, cost and time."""
    usage = completion.usage
    tokens = f"{usage.input_tokens} + {usage.output_tokens} tokens" if usage else "tokens unknown"
    model = f"{completion.provider}/{completion.model}"
    return f"{model} · {tokens} · {cost(completion.cost)} · {completion.latency:.2f} s"


def cost(dollars: Decimal | None) -> str:
    """A cost in US dollars, to the precision that says something."""
    if dollars is None:
        return "unpriced"
    if dollars == 0 or dollars >= 1:
        return f"${dollars:.2f}"
    places = max(2, 1 - dollars.adjusted())  # two digits that say something
    return f"${dollars:.{places}f}"
