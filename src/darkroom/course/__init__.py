"""The course: lessons, the student's predictions and own runs."""
