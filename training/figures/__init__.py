"""The paper's figures, drawn from a run, one PNG file per figure."""
