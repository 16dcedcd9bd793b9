// Package budget shares a number of bytes of memory fairly among rooms.
//
// Each room may hold as much as nobody holds. So a single room gets at most half of the budget, and n rooms that
// hold as much as they may get 1/(n+1) of it each. When one more room needs memory, the rooms that hold most
// exceed what is left, and must shrink first. Memory that is left is for the next room. (Choudhury and Hahne,
// Dynamic Queue Length Thresholds for Shared-Memory Packet Switches, 1998, with a factor of 1.)
package budget

import "sync/atomic"

// Budget is the memory of all rooms. Any goroutine may use it.
type Budget struct {
	limit int64
	held  atomic.Int64
}

// New returns a Budget of limit bytes.
func New(limit int64) *Budget { return &Budget{limit: limit} }

// Account is what one room holds. One goroutine at a time may use it.
type Account struct {
	budget *Budget
	held   int64
}

// Account returns an Account that holds nothing.
func (b *Budget) Account() Account { return Account{budget: b} }

// Hold notes that the room holds this number of bytes now. It returns how many bytes nobody holds. A room that
// holds more than that must hold less soon.
func (a *Account) Hold(bytes int64) (free int64) {
	held := a.budget.held.Add(bytes - a.held)
	a.held = bytes
	return max(0, a.budget.limit-held)
}
