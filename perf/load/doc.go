// Package load drives a broker harder than ordinary clients can, so that what a bench measures is the broker.
//
// Commands are encoded before the clock starts and written in large pieces; answers and messages are read in large pieces and looked at
// in place; bodies are random bytes, so nothing on the way can compress or recognise them. One goroutine serves one connection. Publish
// and Consume return when the broker has processed everything: the last OK was read, or every FIN was followed by an answered CLS.
package load
