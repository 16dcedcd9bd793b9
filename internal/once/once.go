// Package once accepts each number of a sequence once.
//
// Clients and other chats number their messages and lines, and send them again when they do not know whether
// they have arrived. A [Mark] remembers the highest number that was accepted, and so recognizes repetitions.
// [Marks] holds a mark for each other chat, and [Senders] one for each client that numbers its messages.
//
// A sender of numbers must send them in order, because a number below the mark counts as accepted even if it
// never came.
package once

// MaxNumber is the highest number of a sequence. A chat that says 2 million lines a second gets there after 70
// years. Programs that read JSON numbers as floating-point numbers represent it exactly.
const MaxNumber = 1 << 52

// Mark is the highest number of a sequence that was accepted. Numbers begin at 1, so the zero Mark has
// accepted nothing.
type Mark uint64

// Accept accepts the n numbers from first on. It returns the number of them that were accepted before. These
// are always the first ones. first and n must be at least 1, and the last number below 1<<64 - 1.
func (m *Mark) Accept(first, n uint64) (repeated uint64) {
	last := first + n - 1
	repeated = min(n, max(uint64(*m)+1, first)-first)
	*m = max(*m, Mark(last))
	return repeated
}
