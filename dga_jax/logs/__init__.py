"""What a run says of itself: metrics, series, console, plot."""
