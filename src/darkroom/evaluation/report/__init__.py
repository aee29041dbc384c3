"""The evaluation report, `reports/report.html`, and its parts."""
