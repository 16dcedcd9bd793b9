package relay_test

import (
	"fmt"
	"time"

	"example.com/chat/internal/relay"
)

// A relay asks for line 1, and by asking for line 3 it tells that it has stored those before.
func Example() {
	outbox := relay.NewOutbox()
	outbox.Add("", []byte("hello\n"), time.UnixMilli(1000))
	outbox.Add("lobby", []byte("is anybody here?\n"), time.UnixMilli(9000))

	answer, _, _, _ := outbox.Read(outbox.Origin(), relay.Ask{From: 1, Limit: 1 << 20})
	fmt.Printf("%s", answer.Encode())
	fmt.Println(outbox.Unasked(), "lines may not have been stored")

	_, _, added, _ := outbox.Read(outbox.Origin(), relay.Ask{From: answer.Next(), Limit: 1 << 20})
	fmt.Println(outbox.Unasked(), "lines, and the relay waits for more:", added != nil)
	// Output:
	// {"first":1,"said":[{"room":"","lines":1,"at":1000},{"room":"lobby","lines":1,"at":9000}]}
	// hello
	// is anybody here?
	// 2 lines may not have been stored
	// 0 lines, and the relay waits for more: true
}
