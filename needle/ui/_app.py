"""What `needle ui` hands to Streamlit; `app.py` at the top of a checkout says the same."""

from needle import ui

ui.main()
