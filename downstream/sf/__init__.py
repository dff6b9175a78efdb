"""Slot filling: characters and slots of spoken commands by CTC (slot type F1, slot value CER)."""

from speechssl.downstream.sf.task import SlotFilling

TASK = SlotFilling
