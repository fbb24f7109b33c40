"""Decodes the image files of a server's requests: in threads where it is cheap, otherwise in processes.

`plan` examines files and decides, `pool` decodes, `processes` keeps the processes, `process` talks to one of them,
`worker` is what runs in it, and `job` what they exchange.
"""
