package relay

import "time"

const (
	// A mark is kept for that long after its origin was last heard in the room. The stream holds no message that
	// long (relay/stream.go), so none can come again.
	markFor = 48 * time.Hour

	// Marks that a room keeps. Beyond it the one whose origin has been silent longest is forgotten.
	maxMarks = 256
)

// Mark says up to which number a room has heard the lines of an origin.
type Mark struct {
	Number uint64 `json:"number"`
	Heard  int64  `json:"heard"` // when, in milliseconds since 1970
}

// Marks are the marks of a room, by origin. A line that is not above the mark of its origin was said before.
type Marks map[string]Mark

// Hear takes some lines of an origin, numbered from first. It returns how many of them, the first ones, were
// heard before, and notes that all are heard.
func (m Marks) Hear(origin string, first, lines uint64, now time.Time) (known uint64) {
	mark, ok := m[origin]
	if !ok {
		m.makeRoom(now)
	}
	known = min(lines, max(mark.Number+1, first)-first)
	m[origin] = Mark{max(mark.Number, first+lines-1), now.UnixMilli()}
	return known
}

// Merge adds other marks. Of one origin, the higher mark counts.
func (m Marks) Merge(other Marks) {
	for origin, mark := range other {
		if mark.Number > m[origin].Number {
			m[origin] = mark
		}
	}
}

// makeRoom forgets marks, so that there is room for one more.
func (m Marks) makeRoom(now time.Time) {
	oldest := ""
	for origin, mark := range m {
		if mark.Heard < now.Add(-markFor).UnixMilli() {
			delete(m, origin)
		} else if oldest == "" || mark.Heard < m[oldest].Heard {
			oldest = origin
		}
	}
	if len(m) >= maxMarks {
		delete(m, oldest)
	}
}
