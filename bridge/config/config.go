// Package config loads, defaults and validates the configuration file. Every error names
// file, line, key and remedy.
package config
