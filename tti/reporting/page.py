"""The page."""


def html(analysis, rated, browser):
    return ""
