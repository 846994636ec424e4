"""Shows what is going on. Turns requests into reads of the store and renders; decides nothing, talks to no router."""
