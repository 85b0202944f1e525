"""How the command line tells what was decided about an attempt."""

import typer

from otpseal.cli.options import print_json
from otpseal.verification import Decision, Outcome

_TOLD = {
    Outcome.ACCEPTED: "valid",
    Outcome.WRONG: "not valid: wrong code",
    Outcome.MALFORMED: "not valid: a code is six digits",
    Outcome.REPLAYED: "not valid: this code was used already",
    Outcome.THROTTLED: "not looked at: too many attempts",
    Outcome.DISABLED: "not looked at: the account is disabled"
    " (`otpseal account enable`)",
}


def tell_decision(decision: Decision, *, as_json: bool) -> None:
    """Print the decision.

    Raises:
        typer.Exit: 1 if it was not accepted.
    """
    accepted = decision.outcome is Outcome.ACCEPTED
    if as_json:
        answer: dict[str, object] = {"valid": accepted}
        if not accepted:
            answer["reason"] = decision.outcome.name.lower()
        if decision.retry_after_s:
            answer["retry_after"] = decision.retry_after_s
        print_json(answer)
    else:
        wait = f"; try again in {decision.retry_after_s} s"
        told = _TOLD[decision.outcome] + (wait if decision.retry_after_s else "")
        typer.echo(told)
    if not accepted:
        raise typer.Exit(1)
