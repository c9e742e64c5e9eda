"""`python -m fastmta.front` writes the table in docs/metrics.md anew."""

from .document import write_document

if __name__ == "__main__":
    write_document("docs/metrics.md")
