"""The language of the product: FlowSpec and blackhole rules, their wire format, and what may go out.

Pure: nothing here opens a file or socket, logs, or reads a clock. Import from the modules, not from here.
"""
