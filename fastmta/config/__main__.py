"""`python -m fastmta.config` writes docs/configuration.md and conf/fastmta.toml anew."""

from .document import write_documents

if __name__ == "__main__":
    write_documents(".")
