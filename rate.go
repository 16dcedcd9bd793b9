package main

import "time"

// limiter is a token bucket: burst items at once, and one more each period.
type limiter struct {
	burst  int
	period time.Duration
	next   time.Time // when there is an item
}

// wait returns how long it takes until there is an item: 0, or less, if it doesn't.
func (l *limiter) wait(now time.Time) time.Duration {
	if full := now.Add(-time.Duration(l.burst-1) * l.period); l.next.Before(full) {
		l.next = full
	}
	return l.next.Sub(now)
}

// take takes an item, after wait.
func (l *limiter) take() { l.next = l.next.Add(l.period) }
