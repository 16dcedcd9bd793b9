package ratelimit_test

import (
	"fmt"
	"time"

	"example.com/chat/internal/ratelimit"
)

// With two tokens and one more each second, the third message must wait.
func ExampleLimiter() {
	limiter := ratelimit.New(2, time.Second)
	now := time.Now()
	for message := 1; message <= 3; message++ {
		delay := max(0, limiter.Delay(now))
		limiter.Take()
		fmt.Println("send message", message, "in", delay)
	}
	// Output:
	// send message 1 in 0s
	// send message 2 in 0s
	// send message 3 in 1s
}
