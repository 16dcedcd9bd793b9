package once

import (
	"testing"
	"time"
)

var start = time.UnixMilli(1_000_000)

// Of numbers that come, those up to the mark were accepted before. The mark never goes back. Lines of
// other chats and messages of senders are accepted in the same way.
func TestAccept(t *testing.T) {
	for _, test := range []struct {
		mark        Mark
		first, n    uint64
		repeated    uint64
		want        Mark
		description string
	}{
		{0, 1, 3, 0, 3, "the first numbers"},
		{3, 4, 1, 0, 4, "the next number"},
		{3, 1, 3, 3, 3, "all again"},
		{3, 2, 1, 1, 3, "one of them again"},
		{3, 2, 3, 2, 4, "some again, and a new one"},
		{3, 1, 20, 3, 20, "all again, and many new ones"},
		{3, 10, 2, 0, 11, "numbers after a gap"},
		{11, 7, 2, 2, 11, "numbers from the gap, which are late"},
		{0, 1 << 62, 5, 0, 1<<62 + 4, "large numbers"},
		{1<<62 + 4, 1 << 62, 6, 5, 1<<62 + 5, "large numbers again, and a new one"},
	} {
		mark := test.mark
		if got := mark.Accept(test.first, test.n); got != test.repeated || mark != test.want {
			t.Errorf("%s: Mark: got %d repeated and mark %d, want %d and %d", test.description, got, mark, test.repeated, test.want)
		}
		marks := Marks{"a": {Number: test.mark}, "b": {Number: 5}}
		got := marks.Accept("a", test.first, test.n, start)
		if got != test.repeated || marks["a"] != (OriginMark{test.want, 1_000_000}) || marks["b"].Number != 5 {
			t.Errorf("%s: Marks: got %d repeated and %v, want %d and %d", test.description, got, marks, test.repeated, test.want)
		}
		session := Session{senders: NewSenders(nil), sender: &sender{received: test.mark}, last: test.first - 1}
		if got := session.Receive(test.n); got != test.repeated || session.sender.received != test.want || session.last != test.first-1+test.n {
			t.Errorf("%s: Session: got %d repeated and mark %d, want %d and %d", test.description, got, session.sender.received, test.repeated, test.want)
		}
	}
}
