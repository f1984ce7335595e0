"""What delivery does with an event, told with the domain and the ports only: no client library."""
