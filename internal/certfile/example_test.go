package certfile_test

import (
	"crypto/tls"
	"log"
	"net/http"

	"example.com/chat/internal/certfile"
)

// A server whose certificate can be renewed while it runs.
func Example() {
	certificate, err := certfile.Load("cert.pem", "key.pem")
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: ":443", TLSConfig: &tls.Config{GetCertificate: certificate.Get}}
	log.Fatal(server.ListenAndServeTLS("", ""))
}
