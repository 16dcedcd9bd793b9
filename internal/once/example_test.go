package once_test

import (
	"fmt"

	"example.com/chat/internal/once"
)

// A client sends two messages, and loses its connection before it knows that they have arrived. It comes
// back and sends both again, with a third one. The room accepts the third.
func ExampleSenders() {
	senders := once.NewSenders(nil)
	session := senders.Join("ann", 0)
	fmt.Println("repeated:", session.Receive(2))
	session.Leave()

	session = senders.Join("ann", 0)
	fmt.Println("acknowledged:", session.Acked())
	fmt.Println("repeated:", session.Receive(3))
	senders.Commit()
	acked, _ := session.TakeAck()
	fmt.Println("acknowledged:", acked)
	// Output:
	// repeated: 0
	// acknowledged: 0
	// repeated: 2
	// acknowledged: 3
}
