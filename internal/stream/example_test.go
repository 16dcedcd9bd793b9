package stream_test

import (
	"fmt"

	"example.com/chat/internal/stream"
)

// A client that has read one line loses its connection. It comes back with its position, and gets the lines
// after it.
func ExampleStream_NewReaderSince() {
	s := stream.New(256)
	s.Append(stream.TextFrame([]byte("one\ntwo\n")), 0)
	position := fmt.Sprint(s.Epoch(), ".", 1)
	s.Append(stream.TextFrame([]byte("three\n")), 0)

	r := s.NewReaderSince(position)
	fmt.Println("from line", r.Line())
	entries, _ := r.Read(s, 64<<10)
	for _, e := range entries {
		fmt.Printf("%q\n", e.Frame.Lines)
	}
	// Output:
	// from line 1
	// "two\n"
	// "three\n"
}
