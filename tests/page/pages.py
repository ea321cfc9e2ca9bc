"""Reads a page: its elements, its tables, its charts."""

import html.parser
import json

_VOID = {"meta", "link", "br"}


class Page(html.parser.HTMLParser):
    """What is in a page; an element that is not closed where it must be is an error.

    Attributes:
        attributes: (element, name, value) of all.
        rows: text of the cells of all rows of tables.
        charts: by title, what their numbers are.
        text: all that a reader sees without the charts.
    """

    def __init__(self, path):
        super().__init__()
        self.attributes, self.rows, self.charts, self.text = [], [], {}, ""
        self._open, self._chart = [], None
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag == "figure":
            self._chart = dict(attrs)["data-chart"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "script" in self._open and "figure" in self._open:
            self.charts[self._chart] = json.loads(data)
        elif not {"script", "style"} & set(self._open):
            self.text += data
            if {"td", "th"} & set(self._open):
                self.rows[-1][-1] += data

    def values(self, chart):
        """(x, y) of the curves of a chart by their names."""
        return {s["name"]: (s["x"][0], s["y"]) for s in self.charts[chart]["series"]}
