// Command sealpost is a local encrypted mail bridge.
package main

func main() {}
