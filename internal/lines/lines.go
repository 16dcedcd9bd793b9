// Package lines counts and cuts text that consists of whole lines, each ended by '\n'.
//
// A client's message becomes one line. Rooms count lines, chats exchange them, and stores keep them.
package lines

import (
	"bytes"
	"iter"
)

// Count returns the number of lines in text.
func Count(text []byte) int { return bytes.Count(text, []byte{'\n'}) }

// Length returns the number of bytes that the first n lines of text have, or -1 if text has fewer lines.
func Length(text []byte, n int) int {
	length := 0
	for range n {
		end := bytes.IndexByte(text[length:], '\n')
		if end < 0 {
			return -1
		}
		length += end + 1
	}
	return length
}

// Cut returns the first n lines of text and the lines after them. The text must have n lines, or Cut panics.
// Both parts alias text, and an append to the first part does not overwrite the second.
func Cut(text []byte, n int) (first, rest []byte) {
	end := Length(text, n)
	return text[:end:end], text[end:]
}

// Parts cuts text into parts of whole lines, of at most limit bytes each. A line longer than limit is a part
// of its own. The parts alias text.
func Parts(text []byte, limit int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(text) > 0 {
			end := bytes.LastIndexByte(text[:min(len(text), limit)], '\n') + 1
			if end == 0 {
				end = bytes.IndexByte(text, '\n') + 1
			}
			if !yield(text[:end]) {
				return
			}
			text = text[end:]
		}
	}
}
