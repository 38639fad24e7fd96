"""The paper's sixteen rows: settings as data, the runs, the table and the figures."""
