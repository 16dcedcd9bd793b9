package once

import "time"

const (
	// markAge is how long a mark outlives the last line of its origin. The JetStream stream deletes its
	// messages earlier (relay/stream.go), so none of them can come again after that.
	markAge = 48 * time.Hour

	// maxMarks is the number of marks in a Marks. One more origin replaces the origin that has been
	// silent longest.
	maxMarks = 256
)

// Marks holds, for each origin, the highest line number that was accepted from it. A line with a number
// at or below the mark of its origin is a repetition.
//
// Marks is not safe for concurrent use.
type Marks map[string]OriginMark

// OriginMark is the mark of one origin.
type OriginMark struct {
	Number Mark  `json:"number"`
	At     int64 `json:"heard"` // when the last line came, in milliseconds since 1970
}

// Accept accepts n lines of an origin, numbered from first, that came at now. It returns how many of them were
// accepted before. These are always the first ones. first and n must be at least 1.
func (m Marks) Accept(origin string, first, n uint64, now time.Time) (repeated uint64) {
	mark, known := m[origin]
	if !known {
		m.makeRoom(now)
	}
	repeated = mark.Number.Accept(first, n)
	mark.At = now.UnixMilli()
	m[origin] = mark
	return repeated
}

// Merge adds the marks of other. Of two marks for one origin it keeps the higher one.
func (m Marks) Merge(other Marks) {
	for origin, mark := range other {
		if mark.Number > m[origin].Number {
			m[origin] = mark
		}
	}
}

// makeRoom deletes marks older than markAge, and the oldest one if there would still be too many with one more.
func (m Marks) makeRoom(now time.Time) {
	oldest := ""
	for origin, mark := range m {
		if mark.At < now.Add(-markAge).UnixMilli() {
			delete(m, origin)
		} else if oldest == "" || mark.At < m[oldest].At {
			oldest = origin
		}
	}
	if len(m) >= maxMarks {
		delete(m, oldest)
	}
}
