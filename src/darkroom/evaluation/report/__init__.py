"""The evaluation report: `reports/report.html` and what it is made of."""
