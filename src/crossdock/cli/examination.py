"""What `crossdock doctor` found."""

from enum import StrEnum

from pydantic import BaseModel


class Verdict(StrEnum):
    """How a check came out."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


class Finding(BaseModel):
    """One check: what was found, and what to do about it."""

    check: str
    verdict: Verdict
    found: str
    mend: str | None = None


class Examination:
    """The findings so far."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def ok(self, check: str, found: str) -> None:
        """A check that is well."""
        self.findings.append(Finding(check=check, verdict=Verdict.OK, found=found))

    def note(self, check: str, found: str, mend: str) -> None:
        """Something to know."""
        self.findings.append(Finding(check=check, verdict=Verdict.NOTE, found=found, mend=mend))

    def wrong(self, check: str, found: str, mend: str) -> None:
        """Something to mend."""
        self.findings.append(Finding(check=check, verdict=Verdict.WRONG, found=found, mend=mend))
