"""What the commands print: reports in, lines of text or JSON out. Decides nothing, asks no database."""
