"""The paper's experiments, each by one command, with results kept beside the paper's figures."""
