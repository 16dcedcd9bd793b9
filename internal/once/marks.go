package once

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

const (
	// markAge is how long a mark outlives the last line of its origin. The JetStream stream deletes its
	// messages earlier (relay/stream.go), so none of them can come again after that.
	markAge = 48 * time.Hour

	// maxMarks is the number of marks in a Marks. One more origin replaces the origin that has been
	// silent longest.
	maxMarks = 256

	// MaxOrigin is the number of bytes in an origin. A chat's own has 26. Each room has its own marks, so a
	// longer one would be in memory and in files a thousand times.
	MaxOrigin = 64

	// maxGap is the largest number of lines that may be missing before lines of a known origin. It is more
	// than a chat can say while its mark is kept, 3 million lines a second for markAge, so that no outage
	// exceeds it.
	maxGap = 1 << 39
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
// accepted before. These are always the first ones.
//
// If there is no number, if one is 0 or above MaxNumber, or if more than maxGap lines are missing since a mark that
// is younger than markAge, Accept changes nothing and returns false. No chat has such numbers, and with them as the
// origin's mark its real lines would be repetitions. Accept does the same if the origin has more than MaxOrigin bytes.
func (m Marks) Accept(origin string, first, n uint64, now time.Time) (repeated uint64, ok bool) {
	mark, known := m[origin]
	fresh := known && mark.At >= now.Add(-markAge).UnixMilli()
	if len(origin) > MaxOrigin || first < 1 || first > MaxNumber || n < 1 || n > MaxNumber-first+1 || fresh && first > uint64(mark.Number)+maxGap+1 {
		return 0, false
	}
	if !known {
		m.forgetOld(now)
		m.trim(maxMarks - 1)
	}
	repeated = mark.Number.Accept(first, n)
	mark.At = now.UnixMilli()
	m[origin] = mark
	return repeated, true
}

// Merge adds the marks of other. Of two marks for one origin it keeps the higher one, and of all marks those of
// the origins that were heard last. It leaves out marks above MaxNumber or of an origin that is too long, which
// only a damaged or forged file has, and returns their number.
func (m Marks) Merge(other Marks) (refused int) {
	for origin, mark := range other {
		if mark.Number > MaxNumber || len(origin) > MaxOrigin {
			refused++
		} else if mark.Number > m[origin].Number {
			m[origin] = mark
		}
	}
	m.trim(maxMarks)
	return refused
}

// forgetOld deletes the marks that are older than markAge.
func (m Marks) forgetOld(now time.Time) {
	for origin, mark := range m {
		if mark.At < now.Add(-markAge).UnixMilli() {
			delete(m, origin)
		}
	}
}

// trim deletes the oldest marks beyond limit.
func (m Marks) trim(limit int) {
	if len(m) <= limit {
		return
	}
	oldestFirst := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(m[a].At, m[b].At), cmp.Compare(a, b))
	})
	for _, origin := range oldestFirst[:len(m)-limit] {
		delete(m, origin)
	}
}
