// rate.go: how fast a peer may speak.

package main

import "time"

// allowance is how much a peer may say: so many messages a second, and as many as that
// at once after a second of silence.
type allowance struct {
	perMessage time.Duration
	spent      time.Time // up to when the time for what has been said reaches
}

// newAllowance returns the allowance of so many messages a second, or nil if that is 0:
// then there is no limit.
func newAllowance(rate int) *allowance {
	if rate == 0 {
		return nil
	}
	return &allowance{perMessage: time.Second / time.Duration(rate)}
}

// use uses it for a message at that time, and returns how long the next has to wait.
func (a *allowance) use(now time.Time) time.Duration {
	if saved := now.Add(a.perMessage - time.Second); a.spent.Before(saved) {
		a.spent = saved
	}
	a.spent = a.spent.Add(a.perMessage)
	return a.spent.Sub(now)
}
