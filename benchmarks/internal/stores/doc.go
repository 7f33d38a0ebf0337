// Package stores holds the blockstores that can be measured, one file each. Importing it registers them.
package stores
